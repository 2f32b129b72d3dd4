"""What is measured: model specs, synthetic inputs, models and embedding backends. Knows no hardware and no clocks."""
