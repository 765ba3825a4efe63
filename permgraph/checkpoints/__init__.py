"""Weight files and folders: read lazily, written whole or not at all."""
