"""None: but Django tells only applications that have this module when it has migrated."""
