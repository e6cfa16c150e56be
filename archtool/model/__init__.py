"""A checkpoint as one object: architecture, encodings and lazy weights; loading, editing, building, saving."""
