"""The real kernel: drivers that read and write one network namespace, one folder for each subsystem of Linux."""
