//! The Gatehook filter.
