"""The detector put to use: from photographs and videos to answers, pictures and files."""
