//! The haul command.
