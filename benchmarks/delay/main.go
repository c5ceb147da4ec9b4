// A proxy that holds every request's answer back for a while, as a store far away does: delay ADDRESS UPSTREAM DURATION.
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

func main() {
	upstream, err := url.Parse(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	wait, err := time.ParseDuration(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		// The Host header stays the client's, which signed it.
		Rewrite:   func(request *httputil.ProxyRequest) { request.Out.URL.Scheme, request.Out.URL.Host = "http", upstream.Host },
		Transport: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true},
	}
	log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(wait)
		proxy.ServeHTTP(w, r)
	})))
}
