"""Start the command line: ``python -m sk_advbp``."""

import signal
import sys

from sk_advbp.command.comparison import main

if __name__ == "__main__":
    # Not KeyboardInterrupt: `fit` takes that as the wish for a usable, half-trained net.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    main()
