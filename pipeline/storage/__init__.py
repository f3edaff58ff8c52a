"""Storage: where bytes are stored, and how files are read, written, moved and removed.

``at_hand``       one object of a store as a file of this machine, or as a hash
``base``          what every store can do
``at_once``       requests to a bucket side by side
``blobs``         files named by their SHA-256, each content once
``folder_store``  the store that is a folder: files staged beside their target, renamed, moved in,
                  and deleted with their empty folders
``folder``        files in folders: names of temporary ones, hashes, what is where
``listing``       keys of a place, whether it is a folder or a bucket
``modes``         which files and folders are open to every user of the machine
``mounts``        mount points below a folder
``moving``        moving files from one place to another
``opening``       opening the store that is at a place
``owners``        owners of temporary files: which process created one, unambiguously
``places``        where things are kept: a folder, or a bucket and a prefix in it
``real_folders``  folders opened one after the other, so that no link is followed
``walking``       walking a folder in the order of the keys, so that it can be compared with a
                  sorted table
"""
