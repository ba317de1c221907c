"""What the runs of all models share: their folder, their training in a terminal, their options."""
