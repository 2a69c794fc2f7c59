//! Suite: simulation.
