"""Weight files of other programs: reading and writing them, and whose names are whose."""
