module shoal.dev/cluster/tools/vegeta

go 1.25.0

tool github.com/tsenart/vegeta/v12

require github.com/tsenart/vegeta/v12 v12.12.0
