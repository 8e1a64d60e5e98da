//! One binary for all tests of this crate, since each one more would be compiled and linked with everything below it.

mod cluster;
mod faulty;
mod first_light;
mod moves;
mod splits;
