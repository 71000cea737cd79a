//! Tell people and programs: notify scripts, FIFOs.
