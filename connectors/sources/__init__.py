"""Sources: each module reads one body of data and yields it as CloudEvents, ready for `Client.publish`."""
