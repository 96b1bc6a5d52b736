/** SQLSTATE classes of errors that one row causes: data exceptions, constraints, and limits of one value. */
export const isRowSqlState = (code: string): boolean => /^(22|23|54)[0-9A-Z]{3}$/.test(code);
