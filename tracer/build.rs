fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    for n in ["tracer-ebpf", "tracer-ebpf-log"] {
        std::fs::copy(
            "../target/bpf/bpfel-unknown-none/release/tracer-ebpf",
            format!("{out}/{n}"),
        )
        .unwrap();
    }
    println!("cargo::rerun-if-changed=../target/bpf/bpfel-unknown-none/release/tracer-ebpf");
}
