//! Uses gibbsite the way another crate would: by its public names only, with numbers that can
//! be checked by hand.

mod kernels;
mod safe;

fn main() -> Result<(), gibbsite::Error> {
    kernels::run();
    safe::run()?;
    println!("consumer: all numbers as expected");
    Ok(())
}
