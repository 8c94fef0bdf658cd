"""Trainings that a plan wants, one by one, by any number of workers on any number of machines."""
