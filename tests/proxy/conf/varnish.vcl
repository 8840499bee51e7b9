# What the test runs; docs/OPERATING.md recommends these lines. The backend's address is replaced.
vcl 4.1;

backend default {
    .host = "127.0.0.1:8080";
}

sub vcl_recv {
    unset req.http.Forwarded;
    if (req.http.Upgrade ~ "(?i)^websocket$") {
        return (pipe);
    }
    return (pass);
}

sub vcl_pipe {
    set bereq.http.Upgrade = req.http.Upgrade;
    set bereq.http.Connection = "Upgrade";
}
