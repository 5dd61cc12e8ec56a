//! The parts of the benchmark against each other; what `datagen` takes is measured by hand, `just bench`.

#[cfg(test)]
mod bare;
