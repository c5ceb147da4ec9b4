// The registry of CNCF's distribution project, with the stores and logins that the tests use and no cloud's.
package main

import (
	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	// Its only error is that of a command line that says nothing to it, which it has printed.
	_ = registry.RootCmd.Execute()
}
