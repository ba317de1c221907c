"""What all reports share: the look of their pictures, and Markdown."""
