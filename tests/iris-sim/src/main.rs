fn main() {
    std::process::exit(iris_sim::cli::main());
}
