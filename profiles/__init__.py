"""How hardware is seen: the machine, its measured ceilings, telemetry and profiler traces. Knows no workloads."""
