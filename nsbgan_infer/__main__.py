"""`python -m nsbgan_infer` is the command `nsbgan`."""

from nsbgan_infer.cli.main import run

if __name__ == "__main__":
    run()
