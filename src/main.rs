//! The program: see the library's documentation for the house it lives in.

fn main() {}
