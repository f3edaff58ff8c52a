-- The tables of each instance, and the blocklist that they share.
CREATE DATABASE photos_a;
CREATE DATABASE photos_b;
CREATE DATABASE blocklist;
