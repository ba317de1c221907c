"""The application: from photographs to a classifier of how face masks are worn."""
