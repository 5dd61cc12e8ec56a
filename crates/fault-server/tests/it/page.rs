//! The page in the documentation.

use std::path::Path;

use data_generation_fault_server::page;

#[test]
fn the_page_on_disk_is_the_one_that_the_table_gives() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md");
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let lines = written.replace("\r\n", "\n");
    let other = page()
        .lines()
        .zip(lines.lines().chain(std::iter::repeat("")))
        .find(|(table, disk)| table != disk)
        .map(|(table, disk)| format!("table: {table}\n disk: {disk}\n"));
    assert!(
        lines == page(),
        "docs/faults.md is not what the table gives:\n{}cargo run -p data-generation-fault-server -- --page > docs/faults.md",
        other.unwrap_or_default()
    );
}
