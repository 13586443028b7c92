"""Programs that keep the project itself in order."""
