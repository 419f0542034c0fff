"""What a trained network has learned: functions of functions, variables and arrays."""
