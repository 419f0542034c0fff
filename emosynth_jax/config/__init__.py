"""Settings of a run: defaults and their checks, variants, stored configs."""
