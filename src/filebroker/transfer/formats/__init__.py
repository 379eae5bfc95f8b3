"""The formats that runs are exported to, one module each."""
