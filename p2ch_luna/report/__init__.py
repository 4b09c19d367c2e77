"""What is handed to a person or a program about one scan."""
