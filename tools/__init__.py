"""Scripts that read the project itself: its imports, and the files of a run."""
