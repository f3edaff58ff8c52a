"""Storage: where bytes lie, and how files are read, written, moved and removed.

``blobs``    files named by their SHA-256, each content once
``folder``   files of ``output/``: written beside their target, renamed, and deleted with their
             empty folders
``owners``   owners of temporary files: which process made one, told so that no other is taken for
             it
``walking``  walking a folder in the order of the keys, so that it can be compared with a sorted
             table
"""
