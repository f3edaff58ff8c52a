"""The peers: for each, whether it is here, how it is called, and which version it is.

One file each beside this one; each is run as a whole process with the path of a job file.
"""
