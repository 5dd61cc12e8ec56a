//! The program as people use it: each test has a folder of its own, and the endpoint is on 127.0.0.1.

#[cfg(test)]
mod closed_output;
#[cfg(test)]
mod detector;
#[cfg(test)]
mod endpoint;
#[cfg(test)]
mod extract;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod filters;
#[cfg(test)]
mod first_steps;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod interrupting;
#[cfg(test)]
mod limits_of_the_system;
#[cfg(test)]
mod limits_over_runs;
#[cfg(test)]
mod log;
#[cfg(test)]
mod many_processes;
#[cfg(test)]
mod mistakes_in_commands;
#[cfg(test)]
mod mistakes_in_rows;
#[cfg(test)]
mod mistakes_in_settings;
#[cfg(test)]
mod output;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod retry;
#[cfg(test)]
mod running_again;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod server;
#[cfg(test)]
mod shared_limits;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod standard_input;
#[cfg(test)]
mod status;
#[cfg(test)]
mod steering;
#[cfg(test)]
mod time_stamps;
