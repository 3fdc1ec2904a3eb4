"""What does the work: `interface` says what a runner of devices must be; one module each."""
