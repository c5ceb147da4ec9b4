// The S3 gateway versitygw over a folder: upstream's command line, as far as this project uses it, without the
// storages (Azure, ScoutFS, plug-ins), whose clients take longer to compile than the gateway.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// What upstream's command line sets where nothing is said.
const (
	maxConnections      = 250_000
	maxRequests         = 100_000
	multipartMaxParts   = 10_000
	copyObjectThreshold = 5 << 30
	concurrency         = 5_000
	directoryMode       = 0o755
	fileMode            = 0o644
)

const usage = "versitygw [--port ADDRESS] [--region NAME] [--keep-alive] [--quiet] posix [--sidecar FOLDER] FOLDER"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	gateway := flag.NewFlagSet("versitygw", flag.ExitOnError)
	port := gateway.String("port", ":7070", "the address to listen on")
	region := gateway.String("region", "us-east-1", "the region's name")
	keepAlive := gateway.Bool("keep-alive", false, "keep connections open between requests")
	quiet := gateway.Bool("quiet", false, "do not log requests")
	_ = gateway.Parse(arguments)
	if gateway.Arg(0) != "posix" {
		return fmt.Errorf("usage: %s", usage)
	}
	storage := flag.NewFlagSet("posix", flag.ExitOnError)
	sidecar := storage.String("sidecar", "", "where metadata goes; without it into extended attributes")
	_ = storage.Parse(gateway.Args()[1:])
	if storage.NArg() != 1 {
		return fmt.Errorf("usage: %s", usage)
	}

	backend, err := open(storage.Arg(0), *sidecar)
	if err != nil {
		return err
	}
	ended, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return embedgw.RunVersityGW(ended, backend, &embedgw.Config{
		RootUserAccess:      os.Getenv("ROOT_ACCESS_KEY"),
		RootUserSecret:      os.Getenv("ROOT_SECRET_KEY"),
		Region:              *region,
		Ports:               []string{*port},
		KeepAlive:           *keepAlive,
		Quiet:               *quiet,
		MaxConnections:      maxConnections,
		MaxRequests:         maxRequests,
		AdminMaxConnections: maxConnections,
		AdminMaxRequests:    maxRequests,
		MultipartMaxParts:   multipartMaxParts,
	})
}

func open(folder, sidecar string) (*posix.Posix, error) {
	options := posix.PosixOpts{
		SideCarDir:          sidecar,
		Concurrency:         concurrency,
		CopyObjectThreshold: copyObjectThreshold,
	}
	options.SetNewDirPerm(directoryMode)
	options.SetNewFilePerm(fileMode)
	if sidecar != "" {
		metadata, err := meta.NewSideCar(sidecar)
		if err != nil {
			return nil, fmt.Errorf("metadata below %s: %w", sidecar, err)
		}
		return posix.New(folder, metadata, options)
	}
	metadata := meta.XattrMeta{}
	if err := metadata.Test(folder); err != nil {
		return nil, fmt.Errorf("%s takes no extended attributes, give --sidecar: %w", folder, err)
	}
	return posix.New(folder, metadata, options)
}
