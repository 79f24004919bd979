//! Promises of the whole module.
