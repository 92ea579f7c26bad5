"""Two X-rays in, one CT out, on a generated spine: `python3 Testing/demo.py`. Arguments go to `diff2ct demo`."""

import sys

import bootstrap

if __name__ == "__main__":
    sys.exit(bootstrap.run_in_environment("diff2ct", ["demo", "--output", "demo", *sys.argv[1:]]))
