module ichor.dev/test/interop/ping

go 1.24
