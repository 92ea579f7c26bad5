"""Cases x methods -> scores -> tables, figures and a report. `scoring` says how good one volume is; here they are compared."""
