"""Run the trainings that a plan wants, by any number of workers on any number of machines."""
