"""What is handed to a person or a program: about one scan, or about submissions."""

RESEARCH_ONLY = "Research use only; not a medical device."
