"""Measurements of Lockstep beside other tools, each as a whole process; see README.md."""
