"""Storage: where bytes are stored, and how files are read, written, moved and removed.

``at_hand``       one object of a store as a file of this machine, or as a hash
``at_once``       requests to a bucket side by side
``base``          what every store can do
``aws_access``    who we are to S3 and stores like it, and where they are
``blobs``         files named by their SHA-256, each content once
``bucket``        the store that is a bucket
``bucket_client`` connections to a bucket, one set a process
``bucket_conditions`` which conditions a bucket obeys
``bucket_errors`` what the errors of a bucket mean
``bucket_listing`` listing a bucket in the order of its keys, as a folder is walked
``bucket_ranges`` listing a large prefix in several ranges at once, in order
``bucket_requests`` requests for single objects of a bucket
``folder_store``  the store that is a folder: files staged beside their target, renamed, moved in,
                  and deleted with their empty folders
``folder``        files in folders: names of temporary ones, hashes, what is where
``folder_listing`` what a folder holds, in the order of the keys, and which folder it is
``listing``       keys of a place, whether it is a folder or a bucket
``modes``         which files and folders are open to every user of the machine
``mounts``        mount points below a folder
``moving``        moving files from one place to another
``opening``       opening the store that is at a place
``owners``        owners of temporary files: which process created one, unambiguously
``places``        where things are kept: a folder, or a bucket and a prefix in it
``real_folders``  folders opened one after the other, so that no link is followed
``s3``            requests to S3 that obstore has no call for
``walking``       walking a folder in the order of the keys, so that it can be compared with a
                  sorted table
"""
