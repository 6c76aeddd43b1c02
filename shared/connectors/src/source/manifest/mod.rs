pub mod propagate;
pub mod references;
pub mod yaml;
