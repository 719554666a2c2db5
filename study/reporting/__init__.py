"""What a reader sees at the end of a study: a plain table in the terminal and one self-contained HTML page."""
