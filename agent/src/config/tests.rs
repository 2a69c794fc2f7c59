//! Good files, and one bad file for each rule of the config.
