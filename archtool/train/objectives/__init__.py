"""What training minimises: one loss per file, and their weighted sum."""
