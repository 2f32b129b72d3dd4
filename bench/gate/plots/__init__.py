"""The gate's pictures, one per file: TITLE, CAPTION, alt(...) and draw(...) of what that picture shows."""
